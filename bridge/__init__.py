"""Roomline: takes phone calls from a PBX (Asterisk, FreeSWITCH) into rooms.

The PBX speaks SIP, the control plane (`call`, `dispatch`) decides, the media plane (`media`, `rooms`) sounds.
"""
