"""The gRPC face: protobuf to domain and back."""
