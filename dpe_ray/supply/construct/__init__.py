"""Programs that draw samples whose answers are known by construction, and the supplier that orders them."""
