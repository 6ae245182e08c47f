"""The revisions. Each is plain SQL of its day: what it does must not change when mdstream.db.schema does."""
