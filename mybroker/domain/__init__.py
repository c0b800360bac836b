"""The field's own words: money, instruments, phases, calendars. Pure, standard library only."""
