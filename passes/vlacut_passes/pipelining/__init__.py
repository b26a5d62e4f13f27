"""What `in-flight` is made of: which trip of a request runs when, and the phases that run them.

May import: ir and what lies below. Public: `Course`, `course_of`, `InFlightProgram`.
"""
