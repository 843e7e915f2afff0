/* The verbs of pyrkt-oci that need no decision, done by the launcher itself. */
#ifndef PYRKT_QUICK_H
#define PYRKT_QUICK_H

/* Exit code 0 if the command line was one of those and all went well, else -1: then Python does it from the start. */
int quick(int argc, char **argv);

#endif
