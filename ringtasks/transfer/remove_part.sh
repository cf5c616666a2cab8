# Removes a part and its folder.
#
# parameters: folder name check

# include: part.sh

enter && rm -f part && leave
true
