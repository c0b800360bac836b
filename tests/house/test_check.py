"""`make check` fails when one check fails, runs the others all the same, and shows what it said."""

import subprocess
import sys

from tools import check


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_a_failing_check_fails_the_whole_and_its_words_are_shown(monkeypatch, capsys):
    planned = [
        check.Check(name="bad", command=program("print('line 7 is wrong'); raise SystemExit(2)")),
        check.Check(name="good", command=program("print('quiet')")),
    ]
    monkeypatch.setattr(check, "checks", lambda _folders: planned)

    assert check.main([]) == 1

    said = capsys.readouterr().out
    assert "FAILED  bad" in said
    assert "line 7 is wrong" in said
    assert "ok      good" in said
    assert "quiet" not in said
    assert "checks: 1 passed, 1 failed" in said


def test_every_tool_of_the_house_is_among_the_checks():
    words = {word for planned in check.checks(["tools"]) for word in planned.command}

    assert {"mypy", "format", "check", "tools.house"} <= words
    assert any(word.endswith("lint-imports") for word in words)


def test_the_pins_carry_hashes_and_name_no_index():
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (check.ROOT / name).read_text()
        pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert pins
        assert all(line.endswith("\\") for line in pins), "a pin without a hash"
        assert "--index-url" not in text
        assert "--find-links" not in text
        assert "://" not in text


def test_development_pins_hold_the_runtime_pins():
    def pins(name: str) -> set[str]:
        text = (check.ROOT / name).read_text()
        return {line.split(" ", maxsplit=1)[0] for line in text.splitlines() if "==" in line and line[0] not in " #"}

    assert pins("requirements.txt") < pins("requirements-dev.txt")


def test_make_lists_its_commands():
    finished = subprocess.run(["make", "help"], cwd=check.ROOT, capture_output=True, text=True, check=True)

    assert {"up", "down", "status", "day", "test", "check", "lock", "bench", "clean", "help"} == {
        line.split()[1] for line in finished.stdout.splitlines() if line.startswith("  make ")
    }
