"""LeRobot's checkpoint folders: from raw pictures and state to the robot's units, as one program.

Nothing of LeRobot's is imported: configuration, processor steps and statistics are read as data,
and the network is built by what an entry point of `vlacut.lerobot` names for the policy's type.

May import: frontends, ir and what lies below. Public: `lerobot_program`, `Checkpoint`, `Ahead`,
`Behind`,
`LerobotProcess`, `note_lerobot`.
"""
