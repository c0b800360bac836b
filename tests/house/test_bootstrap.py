"""The bootstrap makes an environment from nothing, does nothing twice and survives being cut off.

The folders here pin no package, so no network is needed; the whole way with all packages is what `make test` itself ran
through before it came here.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import bootstrap as program

ROOT = Path(__file__).resolve().parents[2]
WARM_S_MAX = 2.0  # aimed at 0.2; the machine that runs the tests is busy
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A small project beside a bootstrap that has run once."""
    folder = tmp_path_factory.mktemp("a clone with spaces")
    (folder / "tools").mkdir()
    for name in ("bootstrap.py", "bootstrap.sh"):
        shutil.copy(ROOT / "tools" / name, folder / "tools" / name)
    (folder / "requirements.txt").write_text("# nothing\n")
    (folder / "requirements-dev.txt").write_text("# nothing either\n")
    program = folder / "mybroker" / "cli" / "main.py"
    program.parent.mkdir(parents=True)
    program.write_text("import sys\n\n\ndef main():\n    print('arguments', sys.argv[1:])\n    return 3\n")
    finished = bootstrap(folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


def command(folder: Path, group: str) -> list[str]:
    return ["sh", str(folder / "tools" / "bootstrap.sh"), group]


def environment() -> dict[str, str]:
    return {**os.environ, "MYBROKER_PYTHON": sys.executable}


def bootstrap(folder: Path, group: str = "runtime") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, group), env=environment(), capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )


def test_the_command_is_there_and_passes_arguments_and_exit_code_through(made):
    finished = subprocess.run(
        [made / ".venv/bin/mybroker", "up", "a b"], capture_output=True, text=True, check=False, cwd="/"
    )

    assert (finished.stdout, finished.returncode) == ("arguments ['up', 'a b']\n", 3)


def test_the_second_run_says_nothing_and_is_quick(made):
    started_s = time.monotonic()
    finished = bootstrap(made)

    assert (finished.returncode, finished.stdout) == (0, "")
    assert time.monotonic() - started_s < WARM_S_MAX


def test_changed_pins_are_installed_again(made):
    (made / "requirements-dev.txt").write_text("# changed\n")

    first, second = bootstrap(made, "dev"), bootstrap(made, "dev")

    assert "ready for dev" in first.stdout
    assert second.stdout == ""


def test_a_bootstrap_killed_in_the_middle_starts_over(made):
    shutil.rmtree(made / ".venv")
    process = subprocess.Popen(
        command(made, "runtime"), env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    give_up_s = time.monotonic() + DEADLINE_S
    while not (made / ".venv" / ".installing").exists():
        assert time.monotonic() < give_up_s, "the bootstrap never began"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    again = bootstrap(made)

    assert again.returncode == 0, again.stdout + again.stderr
    assert "starting over" in again.stdout
    assert not (made / ".venv" / ".installing").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(made):
    (made / ".venv" / "bin" / "python").unlink()

    assert "creating .venv" in bootstrap(made).stdout


def test_a_package_that_cannot_be_had_is_an_error_with_pips_own_words(made):
    requirements = made / "requirements-dev.txt"
    requirements.write_text(f"./no-such-file.whl --hash=sha256:{'0' * 64}\n")

    finished = bootstrap(made, "dev")

    assert finished.returncode == 1
    assert "no-such-file.whl" in finished.stderr
    assert "bootstrap: pip could not install requirements-dev.txt" in finished.stderr
    requirements.write_text("# nothing\n")


def test_without_a_new_enough_python_one_line_says_what_to_install(tmp_path):
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dirname"):
        (programs / name).symlink_to(shutil.which(name) or name)
    finished = subprocess.run(
        command(tmp_path, "runtime"), env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )

    assert finished.returncode == 1
    assert "Python 3.11 or newer" in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_without_ensurepip_an_ordinary_user_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(program, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(program, "has_module", lambda name: name != "ensurepip")
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(program.BootstrapError, match=r"apt-get install python3\.\d+-venv"):
        program.create_environment()


def test_progress_counts_only_what_this_platform_installs(capsys):
    progress = program.Progress(total=3, started_s=100.0, drawn_s=100.0)
    for line in (
        "Ignoring colorama: markers 'sys_platform == \"win32\"' don't match your environment",
        "Collecting click==8.5.1 (from -r requirements.txt (line 7))",
        "  Downloading click-8.5.1-py3-none-any.whl (100 kB)",
        "Requirement already satisfied: rich==15.0.0 in ./.venv",
    ):
        progress.hear(line)

    progress.show(now_s=101.0)
    assert capsys.readouterr().out == "", "a plain line comes only now and then"
    progress.show(now_s=106.0)
    assert capsys.readouterr().out == "2/2 packages fetched, 6 s\n"
