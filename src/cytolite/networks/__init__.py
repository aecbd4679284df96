"""Models: the bundle that inference loads, and the networks that training builds."""
