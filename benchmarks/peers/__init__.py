"""One program per contender, each as a user of that framework would write it. They run under .bench/, not .venv/.

    raw topic ─> decode ─> drop repeats ─> number ─> canonical JSON, key = symbol, acks = all ─> canonical topic

What is the framework's lies in the contender's file; what is the same for all lies in work.py.
"""
