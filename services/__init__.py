"""The processes: each folder is one service, started by name; none imports another."""
