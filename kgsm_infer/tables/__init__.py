"""Tables of observations: reading, units, duplicates, dates, weather and texture."""
