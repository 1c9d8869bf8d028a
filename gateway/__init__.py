"""The gateway: browsers' WebSocket sessions on one side, multiplexed gRPC streams on the other."""
