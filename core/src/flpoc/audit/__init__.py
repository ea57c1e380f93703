"""Who was allowed what, and who was not: a log in which no line can be changed unnoticed.

Server and sites each write one, in the folder ``audit`` of their state. Every
record holds the hash of the one before it, so that a record that is changed,
removed, inserted or moved breaks the chain.
"""
