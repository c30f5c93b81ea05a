"""The commands of an operator on live counts: usage, top, reset, block, unblock, blocks, watch."""
