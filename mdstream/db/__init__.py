"""The database: its tables (schema.py), what makes them (migrations/), and the check that they are the right ones.

mdstream db upgrade ──> upgrade.py ──> migrations/env.py ──> versions/*.py      plain PostgreSQL
                                              └──> timescale.py                 hypertables, where there is TimescaleDB
sinks, audit, api   ──> connection.py: connect, check, explain
"""
