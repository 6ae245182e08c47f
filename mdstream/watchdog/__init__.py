"""Progress, not liveness: what a worker or an ingestor knows of itself, judged from a thread of its own.

    main loop, twice a second                      watchdog's thread, its own connection to Kafka
    look ──> State (positions, holding?) ────────> Rule <──── where do the logs end?
                                                     └──> Verdict ──> /live /ready /health, and in the end exit 75

docs/operations.md says what a supervisor sees of it.
"""
