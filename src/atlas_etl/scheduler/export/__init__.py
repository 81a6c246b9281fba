"""The same schedules, written for other schedulers: one room per target, pure from definitions to files."""
