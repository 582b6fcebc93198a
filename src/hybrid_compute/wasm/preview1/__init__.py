"""WASI preview 1: the operating system that a guest finds, if it is given one.

    functions          which there are, and how a guest calls them
    file_functions     fd_ and path_: open files, and what is beneath a folder
    process_functions  arguments, environment, clock, chance, the end
    process            all of that for one guest
    files, beneath     what descriptors stand for; paths that stay beneath a folder

None of it is wasmtime's: its streams are read and written on threads of their own, and cannot be left in the middle.
"""
