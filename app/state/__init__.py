"""What one person has open and what it is kept in: workspace, undo, saved sessions, jobs, runs."""
