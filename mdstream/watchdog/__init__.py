"""Progress, not liveness: the state of a worker or an ingestor, judged from a separate thread.

    main loop, twice a second                      watchdog's thread, its own connection to Kafka
    read ──> State (positions, holding?) ────────> Rule <──── where do the logs end?
                                                     └──> Verdict ──> /live /ready /health, and in the end exit 75

docs/operations.md describes what a supervisor sees of it.
"""
