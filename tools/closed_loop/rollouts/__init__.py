"""Episodes in virtual time: what stands in a policy's place, what it sees, how long it takes."""
