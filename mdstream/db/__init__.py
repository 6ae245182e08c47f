"""The database: its tables (schema.py), their migrations (migrations/), and the check of their version.

mdstream db upgrade ──> migrate.py ──> migrations/env.py ──> versions/*.py      plain PostgreSQL
                                              └──> timescale.py                 hypertables, with TimescaleDB
sinks, audit, api   ──> connection.py: connect, check, explain
"""
