"""What may be learned from and what may only be measured on: images, samples, and the wall between them."""
