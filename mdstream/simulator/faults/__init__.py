"""What may go wrong at a venue, on demand. All pure but for their effects, which mdstream.simulator.injection has.

kinds     which faults there are, their parameters, and how they are asked for
schedule  when each of them begins and ends
delivery  what they do to the frames on their way to the clients
garble    frames that cannot be understood
"""
