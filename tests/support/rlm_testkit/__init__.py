"""What the tests share: builders, servers, a proxy, a load generator and a state machine."""
