"""The revisions. Each is plain SQL, frozen in time: it must not change when mdstream.db.schema does."""
