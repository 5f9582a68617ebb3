"""One file per algorithm of pymoo that an engine can be; each offers ``build_algorithm``.

``build_algorithm(population, objectives, **operators)`` returns a new, unused pymoo ``Algorithm``.
The operators are ``sampling``, ``crossover``, ``mutation`` and ``eliminate_duplicates``; a search
on real evaluations, which only replays what happened, leaves them out.
"""
