"""What learning on the device is worth: bundles of some time ago, and every click since."""
