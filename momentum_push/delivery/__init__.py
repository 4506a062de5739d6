"""The way out: a pool of connections per (binding, domain), and what follows from Apple's answers.

Lives here: who gets how many (plan), connections and their life (pool, apns), what an outcome means
(verdict) and its carrying out (settle). Called by the daemon alone.
"""
