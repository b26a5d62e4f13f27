"""Other people's clients: they talk to this machine, and a bundle answers.

A robot's own client keeps its code and is given 127.0.0.1 as its host. Behind that stands the
edge's session; only vlacut's own wire leaves the robot.

May import: control, runtime, tensor, errors; never ir. A room below needs what its extra installs.
Public: `Fields`, `Field`, `parse_field`, `Stepper`, `Stepped`,
`Endpoint`, `read_endpoint`, `open_endpoint`.
"""
