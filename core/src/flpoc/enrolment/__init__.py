"""From a request to a kit: the authority vouches for a key that it never sees.

Who wants to take part makes a key and a request (:mod:`~flpoc.enrolment.requesting`), whoever has
the authority approves it (:mod:`~flpoc.enrolment.approving`), and the first makes a kit of both
(:mod:`~flpoc.enrolment.packaging`). What travels are two archives; neither holds a private key.
"""
