"""Validation of question and answer pairs: is the answer one to the question, and does the cited passage support it?

Validators that look at different evidence (words, facts, form) and two classifiers over several of them learn to tell
the pairs that came in from copies that the code corrupts. A pair that is clearly bad goes to quarantine; one that the
evidence leaves open waits there for people.
"""
