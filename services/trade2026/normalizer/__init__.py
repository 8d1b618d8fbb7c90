"""What venues say, as the platform tells it: ordered, once, checked, and folded into bars."""
