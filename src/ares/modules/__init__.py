"""What a fit does: Lightning modules and the fits built on them."""
