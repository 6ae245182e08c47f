"""Venue faults on demand. All pure; mdstream.simulator.injection has the effects.

kinds     which faults there are, their parameters, and their JSON and text forms
schedule  when each of them begins and ends
delivery  the pipe of stages that frames pass on their way to the clients
corrupt    frames that cannot be understood
"""
