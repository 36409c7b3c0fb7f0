"""What the tests of several folders share: made results, foreign strings, a watch on the largest tensor."""
