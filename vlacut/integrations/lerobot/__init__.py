"""LeRobot's asynchronous inference: its unmodified `RobotClient` talks to a bundle, over gRPC.

What its client pickles is read by a machine of our own, which knows no classes but stand-ins.

May import: integrations and what lies below; grpc. Public: `LerobotServer`, `read_pickle`,
`ReadRecord`, `actions_pickle`.
"""
