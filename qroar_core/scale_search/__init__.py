"""The search for scales and other transforms: methods, objectives, choice of ties, guard and decision."""
