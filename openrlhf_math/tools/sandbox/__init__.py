"""The program around a kernel: `python -I -S sandbox JSON` isolates an interpreter and watches over it.

It imports nothing but the standard library, so that it starts in some 10 ms. Its modules import each other by their
bare names, since Python runs this folder as a program.
"""
