"""Volume types: their extra specs, who may use them, whose default they are, how their volumes are encrypted."""
