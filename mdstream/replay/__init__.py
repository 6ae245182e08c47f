"""The raw log once more: capture files, and reprocessing with today's code."""
