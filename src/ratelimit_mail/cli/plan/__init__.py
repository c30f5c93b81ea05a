"""The command `plan`: when the messages of a mailing will have gone under a policy."""
