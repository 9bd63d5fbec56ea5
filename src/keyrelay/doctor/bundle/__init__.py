"""The support bundle: what somebody who helps has to know, without secrets, and without anything personal."""
