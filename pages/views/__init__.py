"""What shows results, jobs and the setting."""
