"""Names that sampled parameters are filled with; none reads like another of its list."""

PLACES = ("Museum", "School", "Bakery", "Library", "Station", "Park", "Theatre", "Hospital", "Market", "Church")
NAMES = ("Anna", "Ben", "Chloe", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Kate", "Leo")
GOODS = ("Apples", "Bread", "Cheese", "Dates", "Eggs", "Flour", "Grapes", "Honey", "Juice", "Kiwis", "Lentils", "Milk")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ROOMS = ("Kitchen", "Bedroom", "Bathroom", "Office", "Lounge", "Hall", "Pantry", "Study", "Nursery", "Studio", "Attic",
         "Workshop")  # fmt: skip
SERIES = MONTHS, NAMES, GOODS
