"""The command `plan`: when a mailing will have gone, under one policy or several."""
