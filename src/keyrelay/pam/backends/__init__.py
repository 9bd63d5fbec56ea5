"""The back ends that come with keyrelay, a module for each product."""
