"""A closed loop in which the world does not wait: a simulated arm, tasks, experts and policies.

    sh tools/closed_loop/setup.sh                        # MuJoCo and a headless renderer
    python -m tools.closed_loop.train tokens flow        # policies, from scripted experts

Run from the repository's root. It is a bench, not part of the library: it may import all of vlacut,
and nothing imports it. Episodes run in virtual time (`rollouts`), with the robot's own control
loop.
"""
