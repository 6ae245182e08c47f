"""The Alembic environment: env.py sets it up, versions/ holds one module per revision of the schema."""
