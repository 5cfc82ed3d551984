"""Every fault at every point of every operation, alone and in pairs, enumerated by the code itself."""
