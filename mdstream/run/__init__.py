"""Everything on one machine, as processes under one supervisor: `mdstream run`, and the demo on top of it."""
