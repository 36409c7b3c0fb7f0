"""What remedies put in place of the checkpoint's parameters: one file a remedy, with its maths and its `prepare`."""
